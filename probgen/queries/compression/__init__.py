"""Tables as files of nearly as few bits as the model's density says, and back."""
