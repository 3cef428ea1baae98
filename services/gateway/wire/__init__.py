"""What goes over the wire: request bodies, answers, problems. Structs only; they know nothing of the mesh's state."""
