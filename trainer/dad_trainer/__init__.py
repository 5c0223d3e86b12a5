"""The light half: distils students from finished shards, with no teacher, no VQGAN and no Ray in the process."""
