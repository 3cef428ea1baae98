"""The memory fabric: what personas keep of the log, warm in a vector index and cold in S3, and how they find it again."""
