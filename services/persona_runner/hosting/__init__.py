"""Many personas in one process: who is here, who is due, and how their steps get into the log."""
