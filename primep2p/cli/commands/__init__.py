"""Commands that ask a daemon: clients of the control socket, with no private way in."""
