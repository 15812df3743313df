"""Models under names: published, pulled, located and asked."""
