"""The command line: arguments, exit codes, printing; no rule of its own."""
