# SPDX-License-Identifier: Apache-2.0
"""The pages for operators: rendered here, from what the model says; forms are real forms.

What a browser adds by script (parts that change by themselves, charts, shortcuts) is convenience:
reading and saving work without.
"""
