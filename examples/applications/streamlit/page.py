import streamlit as st

st.title("Squares")
number = st.number_input("Number", value=3)
if st.button("Square"):
    st.session_state["clicks"] = st.session_state.get("clicks", 0) + 1
    st.write(f"The square is {number * number}; {st.session_state['clicks']} so far")
file = st.file_uploader("File")
if file is not None:
    st.write(f"{file.name} has {len(file.getvalue())} bytes")
