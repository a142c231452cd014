"""What a user can do: the commands of ``near-monai``, one file for each purpose."""
