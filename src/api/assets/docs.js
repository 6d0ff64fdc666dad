// Starts Swagger UI on this server's own description; kept in a file because the CSP allows no inline script.
window.ui = SwaggerUIBundle({ url: "./openapi.json", dom_id: "#swagger-ui", deepLinking: true });
