"""What commands do without a daemon: with files, homes, plans and trainers of this machine."""
