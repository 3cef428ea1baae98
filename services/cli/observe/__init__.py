"""What a swarm is given to perceive: files that grow, are rotated, cut off or compressed, pipes, and this machine."""
