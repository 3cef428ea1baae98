"""The event stream: Server-Sent Events of what is in the log."""
