"""The object store, and copies of what a mesh has stored."""
