"""Addresses of the console."""

from django.templatetags.static import static
from django.urls import path
from django.views.generic import RedirectView

from console import authority_page, blotter, symbol_page, ticket, views

urlpatterns = [
    path("", views.live, name="live"),
    path("symbols/<slug:symbol>/", symbol_page.symbol, name="symbol"),
    path("symbols/<slug:symbol>/now/", symbol_page.symbol_now, name="symbol-now"),
    path("symbols/<slug:symbol>/chart/", symbol_page.symbol_chart, name="symbol-chart"),
    path("symbols/<slug:symbol>/story/", symbol_page.symbol_story, name="symbol-story"),
    path("authority/", authority_page.authority, name="authority"),
    path("authority/history/", authority_page.authority_history, name="authority-history"),
    path("authority/obligation/", authority_page.authority_obligation, name="authority-obligation"),
    path("fills/", blotter.fills, name="fills"),
    path("fills/export.csv", blotter.fills_export, name="fills-export"),
    path("orders/", blotter.orders, name="orders"),
    path("orders/export.csv", blotter.orders_export, name="orders-export"),
    path("orders/newer/", blotter.orders_newer, name="orders-newer"),
    path("orders/new/", ticket.order_new, name="order-new"),
    path("orders/cancel/", blotter.order_cancel, name="order-cancel"),
    path("favicon.ico", RedirectView.as_view(url=static("console/icon.svg"))),
    path("login/", views.login, name="login"),
    path("logout/", views.logout, name="logout"),
    path("session/", views.session, name="session"),
    path("quoting/", views.all_quoting, name="all-quoting"),
    path("symbols/<slug:symbol>/quoting/", views.symbol_quoting, name="symbol-quoting"),
    path("nodes/<slug:node>/draining/", views.node_draining, name="node-draining"),
]
