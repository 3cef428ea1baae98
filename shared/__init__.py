"""What every service shares: contracts, the log kernel, the runtime shell, and the ports of thinkers, memory and policy."""
