"""What the mesh measures of itself: instruments, the one table of them, and what is promised by them."""
