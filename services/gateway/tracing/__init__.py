"""Traces, made from the log and sent to a collector; nothing of it is imported without one."""
