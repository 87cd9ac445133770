"""Files and folders that are whole or absent, and what to say when the disk refuses."""
