"""The daemon's process: how it starts, what it is made of, its log, and the service that keeps it up."""
