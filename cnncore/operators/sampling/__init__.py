"""Regions of interest, unpooling and polyphase selection."""
