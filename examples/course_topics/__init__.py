"""The topics of an introductory course in generative models, one short function each."""
