"""Who may sign in, in the admin: to read, for those whose group may."""

from django.contrib import admin
from django.contrib.auth.models import Group, User

from accounts.models import ApiToken
from mmproject.admin import ReadOnlyAdmin

admin.site.unregister([User, Group])


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    list_display = ("username", "is_active", "is_staff", "is_superuser", "last_login", "date_joined")
    search_fields = ("username",)
    ordering = ("username",)

    def get_fields(self, _request: object, _obj: object = None) -> list[str]:
        return [*self.list_display, "groups"]


@admin.register(Group)
class GroupAdmin(ReadOnlyAdmin):
    list_display = ("name",)
    ordering = ("name",)

    def get_fields(self, _request: object, _obj: object = None) -> list[str]:
        return ["name", "permissions"]


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    list_display = ("id", "user", "name", "created_at", "last_used_at")
    ordering = ("-id",)

    def get_fields(self, _request: object, _obj: object = None) -> list[str]:
        return list(self.list_display)
