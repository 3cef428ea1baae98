"""`swarm`: the one command, for people and for scripts. It talks to the mesh over its API and its log like anyone else."""
