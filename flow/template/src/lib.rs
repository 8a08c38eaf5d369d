//! Go's text/template with Sprig and Helm's own functions.
