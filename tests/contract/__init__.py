"""One suite per port, run over every adapter that fulfils it."""
