"""What is looked at outside the mesh: only what the operator's rows name, and only as far as the log lets whoever asks."""
