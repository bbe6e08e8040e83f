"""Each fulfils one port with one library. They do not know each other."""
