"""What swarms believe: from confirmed hypotheses of personas that share, by the words of others, until it is old."""
