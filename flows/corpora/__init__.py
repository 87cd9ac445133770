"""Where text comes from: downloads, and readers that turn files into documents."""
