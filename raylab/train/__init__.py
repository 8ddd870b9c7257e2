"""One trial: data, model, training and what the trained model says. No Ray here."""
