"""An app on Django's ORM, with the users of the demo in its db.sqlite3.

django_app.py FILE create               makes the table with one user
django_app.py FILE rename ID NAME       saves a first name, as request.user.save() does
"""
import sys

import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
    USE_TZ=True,
)
django.setup()

from django.db import connection, models  # noqa: E402 (models need the settings)


class User(models.Model):
    id = models.AutoField(primary_key=True)
    first_name = models.CharField(max_length=100)
    last_name = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        app_label = "users"
        db_table = "users"


if sys.argv[2] == "create":
    with connection.schema_editor() as editor:
        editor.create_model(User)
    User.objects.create(first_name="John", last_name="Doe")
else:
    user = User.objects.get(pk=sys.argv[3])
    user.first_name = sys.argv[4]
    user.save()
    print(user.last_name)
