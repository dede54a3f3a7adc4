"""From raw images to labels, probabilities and scores, by what a model knows of its images and classes."""
