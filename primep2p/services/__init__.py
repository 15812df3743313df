"""What drives the machines: trio, the real network, disk and trainer."""
