"""Images, preprocessing, classification and explanation: everything that needs no training."""
