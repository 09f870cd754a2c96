"""What the verbs of the command line do; one module each, imported when its verb is used."""
