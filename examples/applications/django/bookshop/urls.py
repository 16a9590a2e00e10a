from books.views import titles
from django.contrib import admin
from django.urls import path

urlpatterns = [path("", titles), path("admin/", admin.site.urls)]
