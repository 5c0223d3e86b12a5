"""What changes with the machine: the same worker in this process, in several, or in Ray actors."""
