from django.http import JsonResponse

from .models import Book


def titles(request):
    return JsonResponse({"books": list(Book.objects.values_list("title", flat=True))})
