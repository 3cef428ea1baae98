"""The event classes of the mesh, their subjects, envelope and generated schemas: the only vocabulary services share."""
