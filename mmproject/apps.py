from django.apps import AppConfig


class MmprojectConfig(AppConfig):
    name = "mmproject"
    label = "mmproject"
