"""What both halves share: records, shards, indexes, manifests, clean sources, views, and the `dad` command's shell."""
