"""Training: chats with media in, an expert out."""
