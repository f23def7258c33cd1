"""Commands of the command line, one file each: options here, what they do imported when they run."""
