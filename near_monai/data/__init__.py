"""Which label maps a person means, which class of them, and which of them a process takes."""
