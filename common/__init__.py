"""What several rooms use, each thing once: messages, files, settings, errors, names, secrets."""
