"""Training one student: the order of the data, the loop, its checkpoints and what a person sees of it."""
