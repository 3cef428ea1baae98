"""MCP servers of the operator's file, asked for their tools and to run one. The SDK is an extra, imported where it is used."""
