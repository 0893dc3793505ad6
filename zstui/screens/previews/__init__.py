"""Results of jobs as one looks at them: pictures, JSON, text. Every byte of them is a stranger's."""
