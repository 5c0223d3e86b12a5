"""Many students over one set of shards: trained one after the other, evaluated together, compared in one table."""
