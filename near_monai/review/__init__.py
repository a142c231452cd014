"""A person looks at a finished run, and takes single edits back."""
