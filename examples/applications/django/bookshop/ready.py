"""The application with a database that is migrated and has a superuser: made once, before containers are forked."""

import os

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections

from .wsgi import application

call_command("migrate", verbosity=0)
if not get_user_model().objects.exists():
    get_user_model().objects.create_superuser("admin", password=os.environ.get("ADMIN_PASSWORD", "admin"))
connections.close_all()  # each container opens its own

__all__ = ["application"]
