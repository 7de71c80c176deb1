"""A ready-made user model for projects that have none of their own: ``AUTH_USER_MODEL = "clerk_users.ClerkUser"``."""
