"""The batch job: a teacher attacks clean images, a VQGAN snaps them back to codes, shards are written."""
