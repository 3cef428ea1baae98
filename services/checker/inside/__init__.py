"""What is looked at within the mesh: the log and memory, as far as whoever asks may read them."""
